/** A name that somebody chose: its direction is its own and does not turn the words around it. */
export function Name({ children }: { children: string }) {
  return <bdi class="name">{children}</bdi>;
}
