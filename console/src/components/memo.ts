import { Component, type FunctionComponent, h } from "preact";

/** Returns the component, rendered again only when one of its props changes. */
export function memo<Props extends object>(component: FunctionComponent<Props>) {
  return class Memo extends Component<Props> {
    override shouldComponentUpdate(next: Props) {
      const names = new Set([...Object.keys(this.props), ...Object.keys(next)]);
      return [...names].some(
        (name) => !Object.is(Reflect.get(this.props, name), Reflect.get(next, name)),
      );
    }

    override render() {
      return h(component, this.props);
    }
  };
}
