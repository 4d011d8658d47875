interface NewEntriesProps {
  count: number;
  onShow: () => void;
}

/** Says that there is more at the top, and brings it when it is wanted. Its place is kept, so that nothing moves. */
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
