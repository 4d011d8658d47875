/**
 * Returns a request to the API with a service token, as a command for a shell. A token consists of letters, digits and
 * underscores, so it needs no escaping.
 */
export const tokenRequest = (origin: string, token: string): string =>
  `curl ${origin}/graphql \\\n  -H 'Authorization: Bearer ${token}' \\\n  -H 'Content-Type: application/json' \\\n  -d '{"query": "{ viewer { username permissions } }"}'`;
