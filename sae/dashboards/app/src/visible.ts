/** Tokens as they are shown: what cannot be seen gets a sign, and what is far too long is cut. */

import { type Child, h } from "./dom";

const LONGEST = 120;

const NAMES: Record<number, string> = {
  0x0a: "↵", 0x0d: "CR", 0x09: "⇥", 0xad: "SHY", 0x61c: "ALM", 0x180e: "MVS", 0x200b: "ZWSP", 0x200c: "ZWNJ",
  0x200d: "ZWJ", 0x200e: "LRM", 0x200f: "RLM", 0x2028: "LS", 0x2029: "PS", 0x202a: "LRE", 0x202b: "RLE", 0x202c: "PDF",
  0x202d: "LRO", 0x202e: "RLO", 0x2060: "WJ", 0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI", 0xfeff: "BOM",
};

// Controls, format characters, lone surrogates, line and paragraph separators, and what is not assigned.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Cn}]/u;

/** A piece of a token: as it stands, or the sign of an unseen character. */
export interface Piece {
  text: string;
  sign: boolean;
}

function sign(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (code in NAMES) return NAMES[code]!;
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, "0")}`;
  return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

/** Joiners do their work inside a word or an emoji, and are unseen only elsewhere. */
function joins(characters: string[], at: number): boolean {
  const code = characters[at]!.codePointAt(0);
  return (code === 0x200d || code === 0x200c) && at > 0 && at < characters.length - 1 && !/\s/u.test(characters[at + 1]!);
}

/** Splits a token into what is shown as it stands and signs. */
export function pieces(text: string, longest = LONGEST): Piece[] {
  const characters = Array.from(text.slice(0, longest * 2)).slice(0, longest);
  const found: Piece[] = [];
  const add = (part: string, isSign: boolean): void => {
    const last = found.at(-1);
    if (last && !isSign && !last.sign) last.text += part;
    else found.push({ text: part, sign: isSign });
  };
  characters.forEach((character, at) => {
    if (UNSEEN.test(character) && !joins(characters, at)) add(sign(character), true);
    else if (at === 0 && /\p{M}/u.test(character)) add(`◌${character}`, false);
    else add(character, false);
  });
  if (text.length > longest * 2 || Array.from(text).length > longest) {
    found.push({ text: `… ${text.length.toLocaleString("en")} characters`, sign: true });
  }
  return found;
}

/** The same as one string, for labels. */
export function visible(text: string, longest = 40): string {
  const cut = pieces(text, longest).map((piece) => (piece.text.startsWith("… ") && piece.sign ? "…" : piece.text));
  return cut.join("");
}

/** The same as nodes, signs set apart. Where asked for, a line breaks after the sign of its break (style sheets may take that back). */
export function shown(text: string, breaks = false, longest = LONGEST): Child[] {
  return pieces(text, longest).map((piece) => {
    if (!piece.sign) return piece.text;
    const mark = h("span", { class: piece.text.length > 1 ? "sign named" : "sign" }, piece.text);
    return breaks && piece.text === "↵" ? [mark, h("span", { class: "break" }, "\n")] : mark;
  });
}

const CONTINUED = "⋯";

/** A token of a running text; one that only ends a character, which stands at a token before it, has a sign. */
export function running(text: string): Child[] {
  return text === "" ? [h("span", { class: "sign named" }, CONTINUED)] : shown(text, true);
}

/** A token in a table or a sentence: in its own box, so that its spaces and its direction stay its own. */
export function token(text: string): HTMLElement {
  return h("bdi", { class: "word" }, text === "" ? h("span", { class: "sign named" }, "empty") : shown(text));
}
