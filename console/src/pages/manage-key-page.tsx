import { useState } from "preact/hooks";
import { KeyActions } from "../components/key-actions";
import { MissingPermission } from "../components/missing-permission";
import { type NewKey, NewKeyDialog } from "../components/new-key-dialog";
import { Notice } from "../components/notice";
import { PageHeading } from "../components/page-heading";
import { SystemFacts } from "../components/system-facts";
import { SystemOr } from "../components/system-or";
import { systemAddress } from "../routes";
import { useMay } from "../session/viewer-context";

export function ManageKeyPage({ id }: { id: string }) {
  const mayView = useMay("view");
  const [newKey, setNewKey] = useState<NewKey>();
  const [notice, setNotice] = useState<string>();
  return (
    <>
      <PageHeading
        title="Manage API Key"
        trail={[{ name: "System Detail", address: systemAddress(id) }]}
      />
      <Notice text={notice} />
      {mayView ? (
        <SystemOr id={id}>
          {(system) => (
            <>
              <SystemFacts system={system} />
              <KeyActions
                system={system}
                onGenerated={(generated) => {
                  setNotice(undefined);
                  setNewKey(generated);
                }}
                onRevoked={setNotice}
              />
            </>
          )}
        </SystemOr>
      ) : (
        <MissingPermission action="view" />
      )}
      {newKey && <NewKeyDialog newKey={newKey} onClose={() => setNewKey(undefined)} />}
    </>
  );
}
