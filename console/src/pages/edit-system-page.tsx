import { EditSystemForm } from "../components/edit-system-form";
import { MissingPermission } from "../components/missing-permission";
import { SystemFrame } from "../components/system-frame";
import { useMay } from "../session/viewer-context";

export function EditSystemPage({ id }: { id: string }) {
  const mayEdit = useMay("edit");
  return (
    <SystemFrame id={id} title="Edit System" below focus={!mayEdit}>
      {({ system }) =>
        mayEdit ? <EditSystemForm system={system} /> : <MissingPermission action="edit" />
      }
    </SystemFrame>
  );
}
