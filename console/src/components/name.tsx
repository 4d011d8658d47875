/** A name that a person chose; its text direction does not affect the text around it. */
export function Name({ children }: { children: string }) {
  return <bdi class="name">{children}</bdi>;
}
