import type { SystemPartsFragment } from "@keymark/client/documents";
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { useMay } from "../session/viewer-context";
import { EnforcementStatus } from "./enforcement-status";
import { Name } from "./name";
import { ResumeDialog } from "./suspension-dialogs";
import { TimeAgo } from "./time-ago";

interface SuspensionBannerProps {
  system: SystemPartsFragment;
  onNotice: (notice: ComponentChildren) => void;
}

/** Explains why the keys of a suspended system are refused, and resumes it. */
export function SuspensionBanner({ system, onNotice }: SuspensionBannerProps) {
  const mayEdit = useMay("edit");
  const [resuming, setResuming] = useState<SystemPartsFragment>();
  return (
    <>
      {system.suspendedAt !== null && (
        <section class="warning banner" aria-labelledby="suspended">
          <h2 id="suspended">Suspended</h2>
          <p>
            The system was suspended <TimeAgo time={system.suspendedAt} />, and its keys are
            refused.{" "}
            {system.suspendedReason !== null && (
              <>
                Reason: <Name>{system.suspendedReason}</Name>.{" "}
              </>
            )}
            Resume it if something needs it; otherwise it can be deleted.
          </p>
          {mayEdit && (
            <button type="button" onClick={() => setResuming(system)}>
              Resume
            </button>
          )}
        </section>
      )}
      {mayEdit && resuming && (
        <ResumeDialog
          system={resuming}
          onCancel={() => setResuming(undefined)}
          onDone={(enforcement) => {
            setResuming(undefined);
            onNotice(
              <>
                The system was resumed.{" "}
                {resuming.keyMark !== null && (
                  <EnforcementStatus
                    verdict="accepted"
                    enforcement={enforcement}
                    subject="Its key"
                  />
                )}
              </>,
            );
          }}
        />
      )}
    </>
  );
}
