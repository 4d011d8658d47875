import { useLayoutEffect, useState } from "preact/hooks";
import { ChangePasswordForm } from "../components/change-password-form";
import { useSignOut } from "../session/use-sign-out";

/** Shown instead of every other page until the operator has replaced the generated password. */
export function ChangePasswordPage() {
  const [errorMessage, setErrorMessage] = useState<string>();
  const signOut = useSignOut(setErrorMessage);
  useLayoutEffect(() => {
    document.title = "Choose a password – Keymark";
  }, []);
  return (
    <main class="sign-in">
      <h1>Choose a password</h1>
      <p>
        Your password was generated when Keymark first started, and expires 24 hours after that.
        Choose another one to continue.
      </p>
      <ChangePasswordForm hint="Other sessions will be signed out." onChanged={() => undefined}>
        {(disabled) => (
          <button type="button" onClick={signOut} disabled={disabled}>
            Sign out
          </button>
        )}
      </ChangePasswordForm>
      {errorMessage && (
        <p class="error" role="alert">
          {errorMessage}
        </p>
      )}
    </main>
  );
}
