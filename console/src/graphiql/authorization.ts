import type { FetcherOpts } from "@graphiql/toolkit";

/** The headers editor is free text: the name may be spelt in any case. */
export function authorizationOf(headers: FetcherOpts["headers"]): string | undefined {
  const entry = Object.entries(headers ?? {}).find(([n]) => n.toLowerCase() === "authorization");
  return typeof entry?.[1] === "string" ? entry[1] : undefined;
}
