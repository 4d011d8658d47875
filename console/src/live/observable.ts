import { useEffect, useState } from "preact/hooks";

/** A value that notifies its observers whenever it is updated. */
export class Observable<Value> {
  readonly #observers = new Set<(value: Value) => void>();
  #value: Value;

  constructor(value: Value) {
    this.#value = value;
  }

  get value(): Value {
    return this.#value;
  }

  update(change: (current: Value) => Value): void {
    this.#value = change(this.#value);
    for (const observer of this.#observers) observer(this.#value);
  }

  /** Returns a function that removes the observer. */
  observe(observer: (value: Value) => void): () => void {
    this.#observers.add(observer);
    return () => this.#observers.delete(observer);
  }
}

export function useObservable<Value>(observed: Observable<Value>): Value {
  const [value, setValue] = useState(observed.value);
  useEffect(() => {
    setValue(() => observed.value);
    return observed.observe((next) => setValue(() => next));
  }, [observed]);
  return value;
}
