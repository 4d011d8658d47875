import { SignOutDocument } from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import { clearGraphiql } from "../graphiql/storage";
import { navigate } from "../router";
import { SIGN_IN } from "../routes";
import { failureOf } from "../text/failures";
import { useSession } from "./session-context";

/** Returns a function that signs out, and calls `onFailed` with a message if that fails. */
export function useSignOut(onFailed: (message: string) => void): () => Promise<void> {
  const client = useClient();
  const { restart } = useSession();
  return async () => {
    const { error } = await client.mutation(SignOutDocument, {});
    const failure = error && failureOf(error);
    if (failure !== undefined && failure.code !== "UNAUTHENTICATED") {
      onFailed(failure.message);
      return;
    }
    clearGraphiql();
    navigate(SIGN_IN, { replace: true, tenant: null });
    restart();
  };
}
