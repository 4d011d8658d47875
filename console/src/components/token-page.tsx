import type { ServiceTokenPartsFragment } from "@keymark/client/documents";
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useState } from "preact/hooks";
import type { List } from "../live/use-list";
import { useSession } from "../session/session-context";
import { useMay } from "../session/viewer-context";
import { CreateTokenDialog } from "./create-token-dialog";
import { EnforcementStatus } from "./enforcement-status";
import { ListContent } from "./list-content";
import { MissingPermission } from "./missing-permission";
import { Name } from "./name";
import { type NewToken, NewTokenDialog } from "./new-token-dialog";
import { Notice } from "./notice";
import { focusHeading, PageHeading } from "./page-heading";
import { RevokeTokenDialog } from "./revoke-token-dialog";
import { RotateTokenDialog } from "./rotate-token-dialog";
import { type TokenRow, TokenTable } from "./token-table";
import { Total } from "./total";

interface TokenPageProps<Token extends TokenRow> {
  kind: NewToken["kind"];
  /** What the tokens are for. */
  advice: ComponentChildren;
  scopeLabel: string;
  scope: (token: Token) => ComponentChildren;
  useTokens: () => List<Token>;
  /** Undefined if tokens of the kind cannot be rotated. */
  rotatable: ((token: Token) => ServiceTokenPartsFragment) | undefined;
}

type OpenDialog<Token> =
  | { kind: "create" }
  | { kind: "revoke"; token: Token }
  | { kind: "rotate"; token: ServiceTokenPartsFragment };

/** A page of service tokens or of verifier tokens. */
export function TokenPage<Token extends TokenRow>(props: TokenPageProps<Token>) {
  const { kind, advice } = props;
  const { refetchAll } = useSession();
  const mayView = useMay("view-operators");
  const mayEdit = useMay("edit-operators");
  const [notice, setNotice] = useState<ComponentChildren>();
  const [dialog, setDialog] = useState<OpenDialog<Token>>();
  const [newToken, setNewToken] = useState<NewToken>();
  const close = () => setDialog(undefined);
  const receive = (received: NewToken) => {
    close();
    setNotice(undefined);
    setNewToken(received);
    refetchAll();
  };
  // The button that opened the dialog may be gone by now, so it cannot take the focus back.
  useLayoutEffect(() => {
    if (notice !== undefined) focusHeading();
  }, [notice]);
  return (
    <>
      <PageHeading title={kind === "service" ? "Service Tokens" : "Verifier Tokens"} />
      <Notice>{notice}</Notice>
      <p class="advice">{advice}</p>
      {mayView ? (
        <Tokens {...props} onOpen={mayEdit ? setDialog : undefined} />
      ) : (
        <MissingPermission action="view-operators" />
      )}
      {mayEdit && dialog?.kind === "create" && (
        <CreateTokenDialog kind={kind} onCreated={receive} onCancel={close} />
      )}
      {mayEdit && dialog?.kind === "rotate" && (
        <RotateTokenDialog token={dialog.token} onRotated={receive} onCancel={close} />
      )}
      {mayEdit && dialog?.kind === "revoke" && (
        <RevokeTokenDialog
          kind={kind}
          token={dialog.token}
          onCancel={close}
          onRevoked={(enforcement) => {
            close();
            setNotice(
              <>
                The token <Name>{dialog.token.name}</Name> was revoked.{" "}
                <EnforcementStatus verdict="refused" enforcement={enforcement} />
              </>,
            );
            refetchAll();
          }}
        />
      )}
      {/* Shown whatever the operator may by now: the token cannot be shown again. */}
      {newToken && (
        <NewTokenDialog
          newToken={newToken}
          onClose={() => {
            setNewToken(undefined);
            setNotice(
              <>
                The token <Name>{newToken.name}</Name> was{" "}
                {newToken.formerEndsAt === undefined ? "created" : "rotated"}.
              </>,
            );
          }}
        />
      )}
    </>
  );
}

interface TokensProps<Token extends TokenRow> extends TokenPageProps<Token> {
  /** Undefined if the operator may not change tokens. */
  onOpen: ((dialog: OpenDialog<Token>) => void) | undefined;
}

function Tokens<Token extends TokenRow>(props: TokensProps<Token>) {
  const { kind, scopeLabel, scope, useTokens, rotatable, onOpen } = props;
  const list = useTokens();
  const noun = kind === "service" ? "service token" : "verifier token";
  return (
    <>
      <div class="toolbar">
        <Total count={list.totalCount} nouns={[noun, `${noun}s`]} filtered={false} />
        {onOpen && (
          <button type="button" class="primary" onClick={() => onOpen({ kind: "create" })}>
            Create token
          </button>
        )}
      </div>
      <ListContent list={list} empty={<p>There are no {noun}s.</p>}>
        {(tokens) => (
          <TokenTable
            label={`${noun}s`}
            tokens={tokens}
            scopeLabel={scopeLabel}
            scope={scope}
            actions={(token) =>
              onOpen && (
                <>
                  {rotatable && (
                    <button
                      type="button"
                      class="small"
                      onClick={() => onOpen({ kind: "rotate", token: rotatable(token) })}
                    >
                      Rotate<span class="visually-hidden"> {token.name}</span>
                    </button>
                  )}
                  <button
                    type="button"
                    class="small danger"
                    onClick={() => onOpen({ kind: "revoke", token })}
                  >
                    Revoke<span class="visually-hidden"> {token.name}</span>
                  </button>
                </>
              )
            }
          />
        )}
      </ListContent>
    </>
  );
}
