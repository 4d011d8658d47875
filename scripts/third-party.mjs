// Writes what a release says about the packages that are in its binary: THIRD-PARTY.txt has their licenses, and
// sbom.cdx.json lists them in CycloneDX (https://cyclonedx.org/docs/1.5/json/).
//
//   node scripts/third-party.mjs DIRECTORY TARGET DATE
//
// The crates are those that the binary links, without macros and what builds or tests them; the npm packages are those that
// the console's bundle may contain.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

const [directory, target, date] = process.argv.slice(2);
const ROOT = new URL("../", import.meta.url).pathname;
const LICENSE_FILE = /^(licen[cs]e|copying|notice|unlicense)/i;

function licenseTexts(folder) {
  const names = readdirSync(folder).filter((name) => LICENSE_FILE.test(name));
  return names.sort().flatMap((name) => {
    try {
      return [readFileSync(join(folder, name), "utf8").replaceAll("\r\n", "\n").trim()];
    } catch (error) {
      if (error.code === "EISDIR") return [];
      throw error;
    }
  });
}

function cargo(...args) {
  return execFileSync("cargo", [...args, "--locked"], { cwd: ROOT, encoding: "utf8", maxBuffer: 1 << 28 });
}

function crates() {
  const metadata = JSON.parse(cargo("metadata", "--format-version=1", `--filter-platform=${target}`));
  // The metadata also has what features could enable.
  const tree = cargo("tree", "--edges=normal,no-proc-macro", `--target=${target}`, "--prefix=none", "--format={p}");
  const linked = new Set(tree.split("\n").map((each) => each.replace(/ v([^ ]+).*$/, "@$1")));
  const key = ({ name, version }) => `${name}@${version}`;
  const packages = new Map(metadata.packages.map((each) => [each.id, each]));
  const locked = readFileSync(join(ROOT, "Cargo.lock"), "utf8");
  const checksums = new Map(
    [...locked.matchAll(/name = "(.*)"\nversion = "(.*)"\nsource = ".*"\nchecksum = "(.*)"/g)].map((match) => [
      `${match[1]}@${match[2]}`,
      match[3],
    ]),
  );
  const nodes = metadata.resolve.nodes.filter(({ id }) => linked.has(key(packages.get(id))));
  return nodes.map(({ id, deps }) => {
    const crate = packages.get(id);
    const needed = deps.filter((dep) => dep.dep_kinds.some(({ kind }) => kind === null));
    const dependencies = needed.map((dep) => key(packages.get(dep.pkg))).filter((dependency) => linked.has(dependency));
    return {
      isRoot: id === metadata.resolve.root,
      name: crate.name,
      version: crate.version,
      license: (crate.license ?? "").replace(/ *\/ */g, " OR "),
      purl: `pkg:cargo/${key(crate)}`,
      url: crate.repository,
      hash: checksums.get(key(crate)),
      algorithm: "SHA-256",
      texts: licenseTexts(dirname(crate.manifest_path)),
      dependencies: dependencies.map((dependency) => `pkg:cargo/${dependency}`).sort(),
    };
  });
}

function npmPackages() {
  const found = new Map();
  for (const project of ["console", "clients/typescript"]) {
    const lock = JSON.parse(readFileSync(join(ROOT, project, "package-lock.json"), "utf8"));
    for (const [path, locked] of Object.entries(lock.packages)) {
      if (!path.startsWith("node_modules/") || locked.dev || locked.devOptional || locked.optional || locked.link) continue;
      const name = path.replace(/^.*node_modules\//, "");
      const purl = `pkg:npm/${name.replace("@", "%40")}@${locked.version}`;
      const installed = JSON.parse(readFileSync(join(ROOT, project, path, "package.json"), "utf8"));
      const [algorithm, base64] = (locked.integrity ?? "").split(/-(.*)/);
      found.set(purl, {
        name,
        version: locked.version,
        license: locked.license ?? installed.license ?? "",
        purl,
        url: typeof installed.repository === "string" ? installed.repository : installed.repository?.url,
        hash: base64 && Buffer.from(base64, "base64").toString("hex"),
        algorithm: algorithm.replace("sha", "SHA-"),
        texts: licenseTexts(join(ROOT, project, path)),
      });
    }
  }
  return [...found.values()];
}

const all = [...crates(), ...npmPackages()].sort((a, b) => (a.purl < b.purl ? -1 : 1));
const root = all.find((each) => each.isRoot);
const others = all.filter((each) => !each.isRoot);
const unlicensed = others.filter(({ license }) => license === "");
if (unlicensed.length > 0) throw new Error(`no license: ${unlicensed.map(({ purl }) => purl).join(", ")}`);

// Packages with the same text share it.
const sections = new Map();
for (const each of others) {
  const text = each.texts.join("\n\n") || `No text in the package. Its source: ${each.url ?? "unknown"}`;
  sections.set(text, [...(sections.get(text) ?? []), `${each.name} ${each.version} (${each.license})`]);
}
const line = "-".repeat(100);
const texts = [...sections].map(([text, names]) => `${line}\n${names.join("\n")}\n${line}\n\n${text}\n`);
const head = `Keymark ${root.version} contains ${others.length} packages of others, under these licenses.\n`;
writeFileSync(join(directory, "THIRD-PARTY.txt"), [head, ...texts].join("\n"));

const component = (each, type) => ({
  type,
  "bom-ref": each.purl,
  name: each.name,
  version: each.version,
  ...(each.hash && { hashes: [{ alg: each.algorithm, content: each.hash }] }),
  licenses: [{ expression: each.license }],
  purl: each.purl,
});
const dependencies = all.map((each) => ({
  ref: each.purl,
  dependsOn: each.isRoot
    ? [...each.dependencies, ...others.filter(({ purl }) => purl.startsWith("pkg:npm/")).map(({ purl }) => purl)]
    : (each.dependencies ?? []),
}));
const bom = {
  $schema: "http://cyclonedx.org/schema/bom-1.5.schema.json",
  bomFormat: "CycloneDX",
  specVersion: "1.5",
  version: 1,
  metadata: { timestamp: date, component: component(root, "application") },
  components: others.map((each) => component(each, "library")),
  dependencies,
};
writeFileSync(join(directory, "sbom.cdx.json"), `${JSON.stringify(bom, null, 2)}\n`);
console.error(`${others.length} packages, ${others.filter(({ texts }) => texts.length === 0).length} without a license text`);
