interface SearchBoxProps {
  value: string;
  onInput: (value: string) => void;
}

export function SearchBox({ value, onInput }: SearchBoxProps) {
  return (
    <search>
      <input
        type="search"
        aria-label="Search systems"
        placeholder="Search systems"
        value={value}
        onInput={(event) => onInput(event.currentTarget.value)}
        autoComplete="off"
        spellcheck={false}
      />
    </search>
  );
}
