// Generates src/documents.ts, the types of the documents in documents/, from the schema. A schema change that breaks the
// console breaks its build. Uses codegen's core, since its command line needs a newer Node.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { preset } from "@graphql-codegen/client-preset";
import { codegen } from "@graphql-codegen/core";
import { buildSchema, parse } from "graphql";

const OUTPUT = "src/";

process.chdir(new URL("..", import.meta.url).pathname);

const sdl = readFileSync("../../schema.graphql", "utf8");
const schema = parse(sdl);
const schemaAst = buildSchema(sdl);
const documents = readdirSync("documents")
  .sort()
  .map((name) => {
    const location = `documents/${name}`;
    const rawSDL = readFileSync(location, "utf8");
    return { location, rawSDL, document: parse(rawSDL) };
  });

const sections = await preset.buildGeneratesSection({
  baseOutputDir: OUTPUT,
  schema,
  schemaAst,
  documents,
  config: {
    enumType: "string-literal",
    scalars: { DateTime: "string" },
    strictScalars: true,
    useTypeImports: true,
  },
  presetConfig: { fragmentMasking: false, skipIndexFile: true },
  plugins: [],
  pluginMap: {},
});
const section = sections.find(({ filename }) => filename === `${OUTPUT}graphql.ts`);
const types = await codegen({ ...section, schemaAst });

writeFileSync(`${OUTPUT}documents.ts`, types);
