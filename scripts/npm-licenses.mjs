// Checks that every npm package in the lock files of the console, the TypeScript client, the examples and the benchmarks'
// peers has a license that is allowed for its use: what the binary embeds or the client needs has a permissive one; tools
// that only build, test or measure them may also be MPL-2.0 or BlueOak-1.0.0.
//
//   node scripts/npm-licenses.mjs
import { readFileSync } from "node:fs";

const PERMISSIVE = new Set(["0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "PSF-2.0"]);
const DEVELOPMENT = new Set([...PERMISSIVE, "BlueOak-1.0.0", "MPL-2.0"]);

const PROJECTS = ["console", "clients/typescript", "docs/examples", "benches/peers"];
const ROOT = new URL("../", import.meta.url);
const readJson = (path) => JSON.parse(readFileSync(new URL(path, ROOT), "utf8"));

/** The SPDX expression: from the lock file, or from the installed package where the lock file has none. */
function licenseOf(path, locked) {
  if (locked.license) return locked.license;
  try {
    return readJson(`${path}/package.json`).license ?? "";
  } catch (error) {
    if (error.code === "ENOENT") return "";
    throw error;
  }
}

/** Whether `allowed` satisfies an SPDX expression. One with parentheses inside is refused: look at it by hand. */
function satisfies(allowed, expression) {
  const flat = expression.replace(/^\((.*)\)$/, "$1");
  if (/[()]/.test(flat)) return false;
  return flat.split(" OR ").some((choice) => choice.split(" AND ").every((id) => allowed.has(id)));
}

const packages = PROJECTS.flatMap((project) =>
  Object.entries(readJson(`${project}/package-lock.json`).packages)
    .filter(([path]) => path !== "")
    .map(([path, locked]) => [`${project}/${path}`, locked]),
);
const refused = [];
for (const [path, locked] of packages) {
  const license = licenseOf(path, locked);
  if (!satisfies(locked.dev ? DEVELOPMENT : PERMISSIVE, license)) {
    const use = locked.dev ? "to develop" : "in use";
    refused.push(`${path.replace(/^.*node_modules\//, "")} ${locked.version} (${use}): ${license || "no license"}`);
  }
}

if (refused.length > 0) {
  console.error(`npm licenses: ${refused.length} of ${packages.length} packages refused:\n  ${refused.join("\n  ")}`);
  process.exit(1);
}
console.log(`npm licenses ok: ${packages.length} packages`);
