import { useRef, useState } from "preact/hooks";
import { Link } from "../router";
import { MY_SESSIONS } from "../routes";
import { useSignOut } from "../session/use-sign-out";
import { useViewer } from "../session/viewer-context";
import { ChangePasswordDialog } from "./change-password-dialog";
import { Name } from "./name";
import { ThemeSwitch } from "./theme-switch";
import { useHideOnNavigation } from "./use-hide-on-navigation";

const MENU = "operator-menu";

/** The signed-in operator, with a menu to choose the theme, to change the password and to sign out. */
export function OperatorMenu() {
  const { username, tenantId } = useViewer();
  const menu = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const [open, setOpen] = useState(false);
  const [changing, setChanging] = useState(false);
  const [statusMessage, setStatusMessage] = useState<string>();
  const signOut = useSignOut(setStatusMessage);
  useHideOnNavigation(menu, open);
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
        onBeforeToggle={({ newState }) => newState === "open" && setOpen(true)}
        // Not before: the focus returns to the button only from a control that is still there.
        onToggle={({ newState }) => newState === "closed" && setOpen(false)}
      >
        <p class="quiet">
          Signed in as <Name>{username}</Name> of <Name>{tenantId}</Name>
        </p>
        {open && <ThemeSwitch />}
        <Link to={MY_SESSIONS} class="button plain">
          My sessions
        </Link>
        <button
          type="button"
          class="plain"
          onClick={() => {
            menu.current?.hidePopover();
            setStatusMessage(undefined);
            setChanging(true);
          }}
        >
          Change password
        </button>
        <button type="button" class="plain" onClick={signOut}>
          Sign out
        </button>
      </div>
      <span role="status" class={statusMessage === undefined ? undefined : "status-message"}>
        {statusMessage}
      </span>
      {changing && (
        <ChangePasswordDialog
          onCancel={() => setChanging(false)}
          onChanged={() => {
            setChanging(false);
            setStatusMessage("Your password was changed. Your other sessions have ended.");
          }}
        />
      )}
    </div>
  );
}
