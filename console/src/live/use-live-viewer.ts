import { keepOpen } from "@keymark/client";
import { ViewerChangedDocument } from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import { useEffect } from "preact/hooks";
import { consume } from "./consume";

/** Keeps the signed-in operator's permission codes in the cache up to date. */
export function useLiveViewer(): void {
  const client = useClient();
  useEffect(() => {
    const controller = new AbortController();
    const { signal } = controller;
    void keepOpen(signal, () =>
      consume(client.subscription(ViewerChangedDocument, {}), signal, () => undefined),
    );
    return () => controller.abort();
  }, [client]);
}
