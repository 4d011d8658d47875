/** The address that stands for the API whose gateway verifies the key. */
const EXAMPLE_API = "https://api.example.com/";

/**
 * Returns the request of a client that uses the key, as a command for a shell. A key consists of letters, digits and
 * underscores, so it needs no escaping.
 */
export const clientRequest = (apiKey: string): string =>
  `curl ${EXAMPLE_API} \\\n  -H 'X-Api-Key: ${apiKey}'`;
