export const graphqlUrl = () => new URL("/graphql", location.href).href;

export function graphqlWebSocketUrl(): string {
  const url = new URL("/graphql", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}
