import { useEffect, useState } from "preact/hooks";

/** A value that tells when it changes. */
export class Observed<Value> {
  readonly #observers = new Set<(value: Value) => void>();
  #value: Value;

  constructor(value: Value) {
    this.#value = value;
  }

  get value(): Value {
    return this.#value;
  }

  update(change: (last: Value) => Value): void {
    this.#value = change(this.#value);
    for (const observer of this.#observers) observer(this.#value);
  }

  observe(observer: (value: Value) => void): () => void {
    this.#observers.add(observer);
    return () => this.#observers.delete(observer);
  }
}

export function useObserved<Value>(observed: Observed<Value>): Value {
  const [value, setValue] = useState(observed.value);
  useEffect(() => {
    setValue(() => observed.value);
    return observed.observe((next) => setValue(() => next));
  }, [observed]);
  return value;
}
