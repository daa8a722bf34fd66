/** How numbers are written. */

type Maybe = number | null | undefined;

const MISSING = "–";

function missing(value: Maybe): value is null | undefined {
  return value == null || Number.isNaN(value);
}

/** Three significant digits, without needless zeros; far from one as 1.2e-5. */
export function short(value: Maybe): string {
  if (missing(value)) return MISSING;
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1e5) return minus(String(Number(value.toPrecision(size >= 1000 ? 5 : 3))));
  return minus(value.toExponential(1).replace(".0e", "e").replace("e+", "e"));
}

/** As `short`, with a sign before positive numbers. */
export function signed(value: Maybe): string {
  return missing(value) || value <= 0 ? short(value) : `+${short(value)}`;
}

/** A share as per cent. */
export function percent(share: Maybe): string {
  return missing(share) ? MISSING : `${short(share * 100)} %`;
}

/** A whole number with its thousands set apart. */
export function whole(value: Maybe): string {
  return missing(value) ? MISSING : value.toLocaleString("en");
}

function minus(digits: string): string {
  return digits.replace("-", "\u2212").replace("e-", "e\u2212");
}
