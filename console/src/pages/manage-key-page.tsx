import type { ComponentChildren } from "preact";
import { useLayoutEffect, useState } from "preact/hooks";
import { KeyActions } from "../components/key-actions";
import { MissingPermission } from "../components/missing-permission";
import { NewKeyDialog } from "../components/new-key-dialog";
import { Notice } from "../components/notice";
import { focusHeading } from "../components/page-heading";
import { SystemOverview } from "../components/system-overview";
import { SystemPageLayout } from "../components/system-page-layout";
import type { NewKey } from "../graph/generate-key";
import { useMay } from "../session/viewer-context";

export function ManageKeyPage({ id }: { id: string }) {
  const [newKey, setNewKey] = useState<NewKey>();
  const [notice, setNotice] = useState<ComponentChildren>();
  const mayGenerate = useMay("create");
  const mayEdit = useMay("edit");
  // The button that opened the dialog is disabled by now, so it cannot take the focus back.
  useLayoutEffect(() => {
    if (notice !== undefined) focusHeading();
  }, [notice]);
  return (
    <>
      <SystemPageLayout id={id} title="Manage API Key" isSubpage notice={<Notice>{notice}</Notice>}>
        {({ system }) => (
          <>
            <SystemOverview system={system} onNotice={setNotice} />
            <KeyActions
              system={system}
              onNewKey={(generated) => {
                setNotice(undefined);
                setNewKey(generated);
              }}
              onNotice={setNotice}
            />
            {!mayGenerate && !mayEdit && <MissingPermission action="create" />}
          </>
        )}
      </SystemPageLayout>
      {newKey && (
        <NewKeyDialog
          newKey={newKey}
          onClose={() => {
            setNewKey(undefined);
            setNotice(newKey.rotated ? "The API key was rotated." : "The API key was generated.");
          }}
        />
      )}
    </>
  );
}
