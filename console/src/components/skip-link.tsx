export const CONTENT = "content";

/** For the keyboard: past the bar on top, without a trace in the address. */
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
