type Known = readonly [name: string, pattern: RegExp];

/** Common browsers. Most of them name others too, so the order matters. The group of a pattern is the version. */
const BROWSERS: readonly Known[] = [
  ["Edge", /\bEdg(?:e|A|iOS)?\/(\d+)/],
  ["Opera", /\bOPR\/(\d+)/],
  ["Samsung Internet", /\bSamsungBrowser\/(\d+)/],
  ["Firefox", /\b(?:Firefox|FxiOS)\/(\d+)/],
  ["Chrome", /\b(?:Headless)?(?:Chrome|Chromium|CriOS)\/(\d+)/],
  ["Safari", /\bVersion\/(\d+)[\d.]* (?:Mobile\/\S+ )?Safari\//],
];

/** Common operating systems; Android names Linux too, and an iPhone names Mac OS X. */
const SYSTEMS: readonly Known[] = [
  ["Windows", /\bWindows\b/],
  ["Android", /\bAndroid\b/],
  ["iPhone", /\biPhone\b/],
  ["iPad", /\biPad\b/],
  ["macOS", /\bMac OS X\b|\bMacintosh\b/],
  ["ChromeOS", /\bCrOS\b/],
  ["Linux", /\bLinux\b/],
];

const find = (known: readonly Known[], userAgent: string) =>
  known
    .map(([name, pattern]) => ({ name, match: pattern.exec(userAgent) }))
    .find(({ match }) => match !== null);

/** Returns the browser and its system, such as "Firefox 140 on Windows". An uncommon one is shown as it was sent. */
export function browserText(userAgent: string | null): string {
  if (userAgent === null || userAgent.trim() === "") return "Unknown";
  const browser = find(BROWSERS, userAgent);
  if (browser === undefined) return userAgent;
  const name = `${browser.name} ${browser.match?.[1]}`;
  const system = find(SYSTEMS, userAgent);
  return system === undefined ? name : `${name} on ${system.name}`;
}
