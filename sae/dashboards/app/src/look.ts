/** Light and dark: as the system has it, or as the reader chose. */

import { h } from "./dom";

export type Look = "system" | "light" | "dark";
const LOOKS: Look[] = ["system", "light", "dark"];
const KEPT_AS = "sae-dashboard-look";

function kept(): Look {
  try {
    const look = localStorage.getItem(KEPT_AS) as Look | null;
    return look && LOOKS.includes(look) ? look : "system";
  } catch {
    return "system"; // storage is switched off
  }
}

/** Gives an element a look. */
export function setLook(element: HTMLElement, look: Look): void {
  element.dataset["look"] = look;
  document.dispatchEvent(new Event("themechange"));
}

/** A button that goes through the looks; the choice is kept. */
export function lookButton(root: HTMLElement): HTMLElement {
  let look = kept();
  const button = h("button", { type: "button", class: "quiet-button" });
  const show = (): void => {
    setLook(root, look);
    button.textContent = { system: "◐", light: "○", dark: "●" }[look];
    button.setAttribute("aria-label", `Colours: ${look}. Change.`);
    button.title = `Colours: ${look}`;
  };
  button.addEventListener("click", () => {
    look = LOOKS[(LOOKS.indexOf(look) + 1) % LOOKS.length]!;
    try {
      localStorage.setItem(KEPT_AS, look);
    } catch {
      // not kept, but changed
    }
    show();
  });
  show();
  return button;
}
