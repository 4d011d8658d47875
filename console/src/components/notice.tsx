/** What has just been done. */
export function Notice({ text }: { text: string | undefined }) {
  return (
    <div role="status" class={text === undefined ? undefined : "notice"}>
      {text}
    </div>
  );
}
