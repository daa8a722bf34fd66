/** Numbers in addresses. */

import { visible } from "./visible";

/** The number that an address names, of `size` things that are called `what`; an error in words where there is none. */
export function place(words: string, size: number, what: string): number {
  const number = Number(words);
  if (!/^\d+$/.test(words) || number >= size) throw new Error(`There is no ${what} “${visible(words)}”: they are numbered from 0 to ${size - 1}.`);
  return number;
}
