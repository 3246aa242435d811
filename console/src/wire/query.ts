/** One answer that a page shows: asked for when its question changes, kept while a new one is awaited, marked when old. */

import { useEffect, useRef, useState } from "preact/hooks";
import { pause } from "../model/backoff";
import { type Failure, fromError, passing } from "../model/failure";
import { revivals } from "./live";

export interface Query<T> {
  data: T | undefined;
  failure: Failure | undefined;
  /** Nothing has been answered yet, well or ill. */
  loading: boolean;
  /** An answer is awaited, the first or a newer one. */
  busy: boolean;
  reload: () => void;
}

/** `question` tells one question from another; `every` asks again after so many milliseconds. */
export function useQuery<T>(question: string, ask: (signal: AbortSignal) => Promise<T>, every = 0): Query<T> {
  const [state, setState] = useState<{ question: string; data: T | undefined; failure: Failure | undefined }>({
    question,
    data: undefined,
    failure: undefined,
  });
  const [busy, setBusy] = useState(true);
  const [round, setRound] = useState(0);
  const asking = useRef(ask);
  asking.current = ask;
  const revived = revivals.value;

  // `round` asks again, and so does a mesh that has come back.
  useEffect(() => {
    const given = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const attempt = async (failures: number) => {
      setBusy(true);
      let wait = every;
      let failed = 0;
      try {
        const data = await asking.current(given.signal);
        if (given.signal.aborted) return;
        setState({ question, data, failure: undefined });
      } catch (error) {
        if (given.signal.aborted) return;
        const failure = fromError(error);
        setState((last) => ({ question, data: last.question === question ? last.data : undefined, failure }));
        failed = failures + 1;
        wait = passing(failure.code) ? pause(failed, Math.random()) : every;
      }
      setBusy(false);
      if (wait > 0) timer = setTimeout(() => attempt(failed), wait);
    };
    attempt(0);
    return () => {
      given.abort();
      clearTimeout(timer);
    };
  }, [question, round, every, revived]);

  const current = state.question === question;
  const data = current ? state.data : undefined;
  const failure = current ? state.failure : undefined;
  return {
    data,
    failure,
    loading: data === undefined && failure === undefined,
    busy,
    reload: () => setRound((last) => last + 1),
  };
}
