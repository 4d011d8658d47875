import { EditSystemForm } from "../components/edit-system-form";
import { MissingPermission } from "../components/missing-permission";
import { SystemPageLayout } from "../components/system-page-layout";
import { useMay } from "../session/viewer-context";

export function EditSystemPage({ id }: { id: string }) {
  const mayEdit = useMay("edit");
  return (
    <SystemPageLayout id={id} title="Edit System" isSubpage focus={!mayEdit}>
      {({ system }) =>
        mayEdit ? <EditSystemForm system={system} /> : <MissingPermission action="edit" />
      }
    </SystemPageLayout>
  );
}
