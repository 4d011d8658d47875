interface NewEntriesProps {
  count: number;
  onShow: () => void;
}

/** A button that shows the entries that were appended. Its space is reserved, so that nothing moves when it appears. */
export function NewEntries({ count, onShow }: NewEntriesProps) {
  return (
    <div class="new-entries" role="status">
      {count > 0 && (
        <button type="button" onClick={onShow}>
          {count === 1 ? "1 new entry" : `${count} new entries`}
        </button>
      )}
    </div>
  );
}
