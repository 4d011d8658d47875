import { useClient } from "@urql/preact";
import { useRef, useState } from "preact/hooks";
import { SignOutDocument } from "../gql/graphql";
import { navigate } from "../router";
import { SIGN_IN } from "../routes";
import { useSession } from "../session/session-context";
import { useViewer } from "../session/viewer-context";
import { failureOf } from "../text/failures";
import { ChangePasswordDialog } from "./change-password-dialog";
import { Name } from "./name";

const MENU = "operator-menu";

/** Who is signed in, and what concerns them: their password and signing out. */
export function OperatorMenu() {
  const { username, tenantId } = useViewer();
  const menu = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const [open, setOpen] = useState(false);
  const [changing, setChanging] = useState(false);
  const [said, setSaid] = useState<string>();
  const signOut = useSignOut(setSaid);
  return (
    <div class="operator">
      <button
        ref={button}
        type="button"
        class="plain"
        popovertarget={MENU}
        aria-expanded={open}
        aria-label={`Signed in as ${username} of ${tenantId}`}
      >
        <span class="operator-name">
          <Name>{username}</Name>
        </span>
        <span class="operator-tenant quiet">{tenantId}</span>
      </button>
      <div
        ref={menu}
        id={MENU}
        popover="auto"
        class="menu"
        onToggle={(event) => setOpen(event.newState === "open")}
      >
        <p class="quiet">
          Signed in as <Name>{username}</Name> of <Name>{tenantId}</Name>
        </p>
        <button
          type="button"
          class="plain"
          onClick={() => {
            menu.current?.hidePopover();
            setSaid(undefined);
            setChanging(true);
          }}
        >
          Change password
        </button>
        <button type="button" class="plain" onClick={signOut}>
          Sign out
        </button>
      </div>
      <span role="status" class={said === undefined ? undefined : "said"}>
        {said}
      </span>
      {changing && (
        <ChangePasswordDialog
          onCancel={() => setChanging(false)}
          onChanged={() => {
            setChanging(false);
            setSaid("Your password was changed. Your other sessions have ended.");
          }}
        />
      )}
    </div>
  );
}

function useSignOut(onFailed: (words: string) => void): () => Promise<void> {
  const client = useClient();
  const { restart } = useSession();
  return async () => {
    const { error } = await client.mutation(SignOutDocument, {});
    const failure = error && failureOf(error);
    if (failure !== undefined && failure.code !== "UNAUTHENTICATED") {
      onFailed(failure.words);
      return;
    }
    navigate(SIGN_IN, { replace: true });
    restart();
  };
}
