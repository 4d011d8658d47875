import type { ComponentChildren } from "preact";
import { useLayoutEffect, useState } from "preact/hooks";
import { EnforcementStatus } from "../components/enforcement-status";
import { KeyActions } from "../components/key-actions";
import { MissingPermission } from "../components/missing-permission";
import { NewKeyDialog } from "../components/new-key-dialog";
import { Notice } from "../components/notice";
import { focusHeading } from "../components/page-heading";
import { SystemFacts } from "../components/system-facts";
import { SystemPageLayout } from "../components/system-page-layout";
import type { NewKey } from "../graph/generate-key";
import { useMay } from "../session/viewer-context";

export function ManageKeyPage({ id }: { id: string }) {
  const [newKey, setNewKey] = useState<NewKey>();
  const [notice, setNotice] = useState<ComponentChildren>();
  const mayGenerate = useMay("create");
  const mayRevoke = useMay("edit");
  // The button that opened the dialog is disabled by now, so it cannot take the focus back.
  useLayoutEffect(() => {
    if (notice !== undefined) focusHeading();
  }, [notice]);
  return (
    <>
      <SystemPageLayout id={id} title="Manage API Key" isSubpage notice={<Notice>{notice}</Notice>}>
        {({ system }) => (
          <>
            <SystemFacts system={system} />
            <KeyActions
              system={system}
              onGenerated={(generated) => {
                setNotice(undefined);
                setNewKey(generated);
              }}
              onRevoked={(enforcement) =>
                setNotice(
                  <>
                    The API key was revoked.{" "}
                    <EnforcementStatus verdict="refused" enforcement={enforcement} /> A new key can
                    be generated if needed.
                  </>,
                )
              }
            />
            {!mayGenerate && !mayRevoke && <MissingPermission action="create" />}
          </>
        )}
      </SystemPageLayout>
      {newKey && (
        <NewKeyDialog
          newKey={newKey}
          onClose={() => {
            setNewKey(undefined);
            setNotice("The API key was generated.");
          }}
        />
      )}
    </>
  );
}
