/** The door: e-mail address and password for a pair of tokens. */

import { useState } from "preact/hooks";
import { type Failure, fromError } from "../model/failure";
import { Weave } from "../parts/marks";
import { Failed } from "../parts/states";
import { farewell, signIn } from "../wire/session";

export function SignInPage() {
  const [failure, setFailure] = useState<Failure | undefined>();
  const [busy, setBusy] = useState(false);
  const enter = async (event: SubmitEvent) => {
    event.preventDefault();
    const said = new FormData(event.currentTarget as HTMLFormElement);
    setBusy(true);
    setFailure(undefined);
    try {
      await signIn(String(said.get("email")), String(said.get("password")));
    } catch (error) {
      setFailure(fromError(error));
      setBusy(false);
    }
  };
  return (
    <main class="signin">
      <form onSubmit={enter}>
        <h1 class="brand">
          <Weave size={28} /> Weft
        </h1>
        {farewell.value && <p role="status">{farewell.value}</p>}
        <label class="field">
          <span>E-mail address</span>
          <input name="email" type="email" autocomplete="username" required />
        </label>
        <label class="field">
          <span>Password</span>
          <input name="password" type="password" autocomplete="current-password" required />
        </label>
        {failure && <Failed failure={failure} />}
        <button type="submit" class="main" disabled={busy}>
          {busy ? "Signing in" : "Sign in"}
        </button>
        <p class="small quiet">
          A mesh makes its operator at the first start: <code>operator@weft.example</code>, with the password in{" "}
          <code>secrets/operator.password</code> below <code>WEFT_DATA</code>.
        </p>
      </form>
    </main>
  );
}
