import { Component, type FunctionComponent, h } from "preact";

/** Renders again only when a property is another value. */
export function memo<Props extends object>(of: FunctionComponent<Props>) {
  return class Memo extends Component<Props> {
    override shouldComponentUpdate(next: Props) {
      const names = new Set([...Object.keys(this.props), ...Object.keys(next)]);
      return [...names].some(
        (name) => !Object.is(Reflect.get(this.props, name), Reflect.get(next, name)),
      );
    }

    override render() {
      return h(of, this.props);
    }
  };
}
