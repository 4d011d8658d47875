import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { ApiKeyPartsFragment, SystemPartsFragment } from "../gql/graphql";
import { useMay } from "../session/viewer-context";
import { shortTime } from "../text/time";
import { EndRotationDialog } from "./end-rotation-dialog";
import { EndText } from "./end-text";
import { EnforcementStatus } from "./enforcement-status";
import { KeyExpiryDialog } from "./key-expiry-dialog";
import { KeyMark } from "./key-mark";
import { Name } from "./name";
import { TimeAgo } from "./time-ago";

interface RotationCockpitProps {
  system: SystemPartsFragment;
  onNotice: (notice: ComponentChildren) => void;
}

/** While a key retires: the old and the new key side by side, and what ends or extends the overlap. */
export function RotationCockpit({ system, onNotice }: RotationCockpitProps) {
  const mayEdit = useMay("edit");
  const [dialog, setDialog] = useState<{ kind: "end" | "extend"; system: SystemPartsFragment }>();
  const close = () => setDialog(undefined);
  const { currentKey, retiringKey } = system;
  return (
    <>
      {retiringKey && (
        <section class="rotation" aria-labelledby="rotation">
          <h2 id="rotation">Rotation</h2>
          <div class="rotation-keys">
            <RotatingKey title="Old key" apiKey={retiringKey} />
            {currentKey ? (
              <RotatingKey title="New key" apiKey={currentKey} />
            ) : (
              <p class="quiet">There is no new key: generate one.</p>
            )}
          </div>
          {mayEdit && (
            <div class="actions">
              <button
                type="button"
                class="danger"
                onClick={() => setDialog({ kind: "end", system })}
              >
                End Now
              </button>
              <button type="button" onClick={() => setDialog({ kind: "extend", system })}>
                Extend
              </button>
            </div>
          )}
        </section>
      )}
      {mayEdit && dialog?.kind === "end" && (
        <EndRotationDialog
          system={dialog.system}
          onCancel={close}
          onEnded={(enforcement) => {
            close();
            onNotice(
              <>
                The rotation was ended.{" "}
                <EnforcementStatus
                  verdict="refused"
                  enforcement={enforcement}
                  subject="The old key"
                />
              </>,
            );
          }}
        />
      )}
      {mayEdit && dialog?.kind === "extend" && (
        <KeyExpiryDialog
          system={dialog.system}
          keyRole="RETIRING"
          onCancel={close}
          onChanged={(expiresAt, enforcement) => {
            close();
            onNotice(
              <>
                The old key now ends {expiresAt === null ? "never" : shortTime(new Date(expiresAt))}
                . <EnforcementStatus verdict="applied" enforcement={enforcement} />
              </>,
            );
          }}
        />
      )}
    </>
  );
}

interface RotatingKeyProps {
  title: string;
  apiKey: ApiKeyPartsFragment;
}

function RotatingKey({ title, apiKey }: RotatingKeyProps) {
  const retires = apiKey.role === "RETIRING";
  return (
    <div class="rotating-key">
      <h3>
        {title} <KeyMark mark={apiKey.mark} />
      </h3>
      <dl>
        <dt>{retires ? "Ends" : "Expires"}</dt>
        <dd>
          <EndText time={apiKey.expiresAt} />
        </dd>
        <dt>Generated</dt>
        <dd>
          <TimeAgo time={apiKey.generatedAt} /> by <Name>{apiKey.generatedBy.name}</Name>
        </dd>
      </dl>
    </div>
  );
}
