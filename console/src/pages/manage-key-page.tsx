import type { ComponentChildren } from "preact";
import { useLayoutEffect, useState } from "preact/hooks";
import { Enforced } from "../components/enforced";
import { KeyActions } from "../components/key-actions";
import { MissingPermission } from "../components/missing-permission";
import { NewKeyDialog } from "../components/new-key-dialog";
import { Notice } from "../components/notice";
import { focusHeading } from "../components/page-heading";
import { SystemFacts } from "../components/system-facts";
import { SystemFrame } from "../components/system-frame";
import type { NewKey } from "../graph/generate-key";
import { useMay } from "../session/viewer-context";

export function ManageKeyPage({ id }: { id: string }) {
  const [newKey, setNewKey] = useState<NewKey>();
  const [said, setSaid] = useState<ComponentChildren>();
  const mayGenerate = useMay("create");
  const mayRevoke = useMay("edit");
  // The button that was pressed cannot be pressed again, and so could not take the focus back.
  useLayoutEffect(() => {
    if (said !== undefined) focusHeading();
  }, [said]);
  return (
    <>
      <SystemFrame id={id} title="Manage API Key" below notice={<Notice>{said}</Notice>}>
        {({ system }) => (
          <>
            <SystemFacts system={system} />
            <KeyActions
              system={system}
              onGenerated={(generated) => {
                setSaid(undefined);
                setNewKey(generated);
              }}
              onRevoked={(enforcement) =>
                setSaid(
                  <>
                    The API key was revoked.{" "}
                    <Enforced verdict="refused" enforcement={enforcement} />
                  </>,
                )
              }
            />
            {!mayGenerate && !mayRevoke && <MissingPermission action="create" />}
          </>
        )}
      </SystemFrame>
      {newKey && (
        <NewKeyDialog
          newKey={newKey}
          onClose={() => {
            setNewKey(undefined);
            setSaid("The API key was generated.");
          }}
        />
      )}
    </>
  );
}
