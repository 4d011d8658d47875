import { OperatorsDocument } from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useState } from "preact/hooks";
import { AddOperatorDialog } from "../components/add-operator-dialog";
import { ListContent } from "../components/list-content";
import { MissingPermission } from "../components/missing-permission";
import { Name } from "../components/name";
import { type NewPassword, NewPasswordDialog } from "../components/new-password-dialog";
import { Notice } from "../components/notice";
import { OperatorTable } from "../components/operator-table";
import { focusHeading, PageHeading } from "../components/page-heading";
import { SearchBox } from "../components/search-box";
import { Total } from "../components/total";
import { useDebounced } from "../components/use-debounced";
import { OPERATOR_CHANGES } from "../live/actions";
import { useList } from "../live/use-list";
import { navigate, useLocation } from "../router";
import { operatorsPath } from "../routes";
import { useSession } from "../session/session-context";
import { useMay } from "../session/viewer-context";

const SEARCH_DEBOUNCE_MS = 150;

/** The operators of the tenant, filtered by the parameter `search` of the URL. */
export function OperatorsPage() {
  const { notice: arrival } = useLocation();
  const { refetchAll } = useSession();
  const mayView = useMay("view-operators");
  const mayEdit = useMay("edit-operators");
  const [notice, setNotice] = useState<ComponentChildren>();
  const [adding, setAdding] = useState(false);
  const [newPassword, setNewPassword] = useState<NewPassword>();
  useLayoutEffect(() => {
    if (notice !== undefined) focusHeading();
  }, [notice]);
  return (
    <>
      <PageHeading title="Operators" />
      <Notice>{notice ?? arrival}</Notice>
      {mayView ? (
        <Operators onAdd={mayEdit ? () => setAdding(true) : undefined} />
      ) : (
        <MissingPermission action="view-operators" />
      )}
      {mayEdit && adding && (
        <AddOperatorDialog
          onCancel={() => setAdding(false)}
          onAdded={(added) => {
            setAdding(false);
            setNotice(undefined);
            setNewPassword(added);
            refetchAll();
          }}
        />
      )}
      {/* Shown whatever the operator may by now: the password cannot be shown again. */}
      {newPassword && (
        <NewPasswordDialog
          newPassword={newPassword}
          onClose={() => {
            setNewPassword(undefined);
            setNotice(
              <>
                The operator <Name>{newPassword.username}</Name> was added.
              </>,
            );
          }}
        />
      )}
    </>
  );
}

/** `onAdd` is undefined if the operator may not add others. */
function Operators({ onAdd }: { onAdd: (() => void) | undefined }) {
  const client = useClient();
  const { search: parameters } = useLocation();
  const search = parameters.get("search") ?? "";
  const debouncedSearch = useDebounced(search, SEARCH_DEBOUNCE_MS);
  const list = useList({
    search: debouncedSearch,
    actions: OPERATOR_CHANGES,
    async load(page) {
      const variables = { search: debouncedSearch, ...page };
      const options = { requestPolicy: "network-only" } as const;
      const { data, error } = await client.query(OperatorsDocument, variables, options);
      return { page: data?.operators, error };
    },
  });
  return (
    <>
      <div class="toolbar">
        <SearchBox
          label="Search operators"
          value={search}
          onInput={(typed) => navigate(operatorsPath(typed), { replace: true })}
          onKey={() => undefined}
        />
        <Total
          count={list.totalCount}
          nouns={["operator", "operators"]}
          filtered={debouncedSearch !== ""}
        />
        {onAdd && (
          <button type="button" class="primary" onClick={onAdd}>
            Add operator
          </button>
        )}
      </div>
      <ListContent
        list={list}
        empty={<p>{debouncedSearch === "" ? "There are no operators." : "No operator matches."}</p>}
      >
        {(operators) => <OperatorTable operators={operators} />}
      </ListContent>
    </>
  );
}
