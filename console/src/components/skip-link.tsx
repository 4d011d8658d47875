export const CONTENT = "content";

/** Lets keyboard users skip the top bar. It leaves the URL and the history unchanged. */
export function SkipLink() {
  const skip = (event: MouseEvent) => {
    event.preventDefault();
    document.getElementById(CONTENT)?.focus();
  };
  return (
    <a class="skip" href={`#${CONTENT}`} onClick={skip}>
      Skip to content
    </a>
  );
}
