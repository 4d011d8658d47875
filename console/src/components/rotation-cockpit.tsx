import type { ApiKeyPartsFragment, SystemPartsFragment } from "@keymark/client/documents";
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { useTick } from "../live/now";
import type { SystemUse } from "../live/use-system-use";
import { useMay } from "../session/viewer-context";
import { callsByBin } from "../text/calls";
import { isEndAtRisk, lastUseText } from "../text/rotation";
import { shortTime } from "../text/time";
import { CallsChart } from "./calls-chart";
import { EndRotationDialog } from "./end-rotation-dialog";
import { EndText } from "./end-text";
import { EnforcementStatus } from "./enforcement-status";
import { KeyExpiryDialog } from "./key-expiry-dialog";
import { KeyMark } from "./key-mark";
import { Name } from "./name";
import { TimeAgo } from "./time-ago";

interface RotationCockpitProps {
  system: SystemPartsFragment;
  use: SystemUse | undefined;
  onNotice: (notice: ComponentChildren) => void;
}

/** While a key retires: the old and the new key side by side, and what ends or extends the overlap. */
export function RotationCockpit({ system, use, onNotice }: RotationCockpitProps) {
  const mayEdit = useMay("edit");
  const [dialog, setDialog] = useState<{ kind: "end" | "extend"; system: SystemPartsFragment }>();
  const close = () => setDialog(undefined);
  const { currentKey, retiringKey } = system;
  return (
    <>
      {retiringKey && (
        <section class="rotation" aria-labelledby="rotation">
          <h2 id="rotation">Rotation</h2>
          <EndAtRisk system={system} use={use} />
          <RotatingKeys retiringKey={retiringKey} currentKey={currentKey} use={use} />
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
          lastUse={
            dialog.system.retiringKey
              ? lastUseText(
                  dialog.system.retiringKey.mark,
                  use?.of(dialog.system.retiringKey),
                  new Date(),
                )
              : undefined
          }
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

interface EndAtRiskProps {
  system: SystemPartsFragment;
  use: SystemUse | undefined;
}

/** Warns when the end of the overlap comes near while the old key is in use. */
function EndAtRisk({ system: { currentKey, retiringKey }, use }: EndAtRiskProps) {
  const lastUsedAt = (retiringKey && use?.of(retiringKey)?.lastUsedAt) ?? null;
  const isShown = (now: Date) =>
    currentKey !== null &&
    retiringKey !== null &&
    retiringKey.expiresAt !== null &&
    isEndAtRisk(
      { startedAt: currentKey.generatedAt, endsAt: retiringKey.expiresAt, lastUsedAt },
      now,
    );
  useTick((now) => String(isShown(now)));
  return (
    <div role="alert" class={isShown(new Date()) ? "warning" : undefined}>
      {isShown(new Date()) &&
        "The old key ends soon and is still in use. Change the application over to the new key, or extend the rotation."}
    </div>
  );
}

interface RotatingKeysProps {
  retiringKey: ApiKeyPartsFragment;
  currentKey: ApiKeyPartsFragment | null;
  use: SystemUse | undefined;
}

/** The old and the new key side by side, with the calls of the last minutes in the same scale. */
function RotatingKeys({ retiringKey, currentKey, use }: RotatingKeysProps) {
  useTick((now) => String(now.getTime()));
  const now = new Date();
  const callsOf = (key: ApiKeyPartsFragment | null) => {
    const known = key && use?.of(key);
    return known ? callsByBin(known.samples, now.getTime()) : undefined;
  };
  const oldCalls = callsOf(retiringKey);
  const newCalls = callsOf(currentKey);
  const max = Math.max(...(oldCalls ?? []), ...(newCalls ?? []), 0);
  return (
    <div class="rotation-keys">
      <RotatingKey
        title="Old key"
        apiKey={retiringKey}
        lastUse={lastUseText(retiringKey.mark, use?.of(retiringKey), now)}
        chart={oldCalls && <CallsChart calls={oldCalls} max={max} />}
      />
      {currentKey ? (
        <RotatingKey
          title="New key"
          apiKey={currentKey}
          lastUse={lastUseText(currentKey.mark, use?.of(currentKey), now)}
          chart={newCalls && <CallsChart calls={newCalls} max={max} />}
        />
      ) : (
        <p class="quiet">There is no new key. Generate one before the old one ends.</p>
      )}
    </div>
  );
}

interface RotatingKeyProps {
  title: string;
  apiKey: ApiKeyPartsFragment;
  lastUse: string | undefined;
  chart: ComponentChildren;
}

function RotatingKey({ title, apiKey, lastUse, chart }: RotatingKeyProps) {
  const retires = apiKey.role === "RETIRING";
  return (
    <div class="rotating-key">
      <h3>
        {title} <KeyMark mark={apiKey.mark} />
      </h3>
      {lastUse !== undefined && <p>{lastUse}</p>}
      {chart}
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
