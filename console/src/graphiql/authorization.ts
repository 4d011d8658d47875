import type { FetcherOpts } from "@graphiql/toolkit";

/** Returns the `Authorization` header, in whatever case it was typed into the headers editor. */
export function authorizationOf(headers: FetcherOpts["headers"]): string | undefined {
  const entry = Object.entries(headers ?? {}).find(
    ([name]) => name.toLowerCase() === "authorization",
  );
  return typeof entry?.[1] === "string" ? entry[1] : undefined;
}
