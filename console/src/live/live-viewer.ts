import { useClient } from "@urql/preact";
import { useEffect } from "preact/hooks";
import { ViewerChangedDocument } from "../gql/graphql";
import { drain, keepOpen } from "./keep-open";

/** Keeps the signed-in operator's permission codes right: the cache takes them in, whoever shows them is told. */
export function useLiveViewer(): void {
  const client = useClient();
  useEffect(() => {
    const following = new AbortController();
    const { signal } = following;
    void keepOpen(signal, () =>
      drain(client.subscription(ViewerChangedDocument, {}), signal, () => undefined),
    );
    return () => following.abort();
  }, [client]);
}
