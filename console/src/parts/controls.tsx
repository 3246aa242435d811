/** The controls of a generated form, for messages in messages and lists of them. */

import type { TargetedInputEvent } from "preact";
import { type Draft, type Drafts, empty, type Field } from "../model/form";

interface ControlsProps {
  fields: readonly Field[];
  drafts: Drafts;
  change: (drafts: Drafts) => void;
  path?: string;
}

export function Controls({ fields, drafts, change, path = "" }: ControlsProps) {
  return (
    <>
      {fields.map((field) => (
        <Controlled
          key={field.key}
          field={field}
          draft={drafts[field.key] ?? ""}
          change={(draft) => change({ ...drafts, [field.key]: draft })}
          path={`${path}${field.label}`}
        />
      ))}
    </>
  );
}

interface OneProps {
  field: Field;
  draft: Draft;
  change: (draft: Draft) => void;
  path: string;
}

function Controlled({ field, draft, change, path }: OneProps) {
  if (!Array.isArray(draft)) return <One field={field} draft={draft} change={change} path={path} />;
  const uuid = () => crypto.randomUUID();
  return (
    <fieldset>
      <legend>
        {field.label} {field.required && <Needed />}
      </legend>
      {field.comment && <p class="hint">{field.comment}</p>}
      {draft.map((item, at) => (
        <div key={at} class="stack">
          <One
            field={{ ...field, label: `${field.label} ${at + 1}`, comment: "", required: false }}
            draft={item}
            change={(next) => change(draft.map((old, place) => (place === at ? next : old)))}
            path={`${path}.${at}`}
          />
          <div>
            <button
              type="button"
              onClick={() => change(draft.filter((_, place) => place !== at))}
              aria-label={`Remove ${field.label} ${at + 1}`}
            >
              Remove
            </button>
          </div>
        </div>
      ))}
      <div>
        <button type="button" onClick={() => change([...draft, empty(field, uuid)])}>
          Add {field.label}
        </button>
      </div>
    </fieldset>
  );
}

function Needed() {
  return (
    <span class="needed" title="The contract asks for it">
      required
    </span>
  );
}

function One({ field, draft, change, path }: OneProps) {
  if (field.control === "group") {
    const inner = typeof draft === "object" && !Array.isArray(draft) ? draft : {};
    return (
      <fieldset>
        <legend>
          {field.label} {field.required && <Needed />}
        </legend>
        {field.comment && <p class="hint">{field.comment}</p>}
        <Controls fields={field.fields} drafts={inner} change={change} path={`${path}.`} />
      </fieldset>
    );
  }
  if (field.control === "switch") {
    return (
      <div>
        <label class="tick">
          <input
            type="checkbox"
            name={path}
            checked={draft === true}
            onChange={(event) => change(event.currentTarget.checked)}
          />
          {field.label}
        </label>
        <p class="hint">{field.comment}</p>
      </div>
    );
  }
  const value = typeof draft === "string" ? draft : "";
  const about = `about-${path.replace(/[^A-Za-z0-9]/g, "-")}`;
  const told = [field.comment, field.hint].filter(Boolean).join(" — ");
  return (
    <div>
      <label class="field">
        <span>
          {field.label} {field.required && <Needed />}
        </span>
        <Input field={field} value={value} change={change} path={path} about={told ? about : undefined} />
      </label>
      {told && (
        <p class="hint" id={about}>
          {told}
        </p>
      )}
    </div>
  );
}

interface InputProps {
  field: Field;
  value: string;
  change: (draft: Draft) => void;
  path: string;
  about: string | undefined;
}

function Input({ field, value, change, path, about }: InputProps) {
  const given = { name: path, value, "aria-describedby": about };
  if (field.control === "choice") {
    return (
      <select {...given} onChange={(event) => change(event.currentTarget.value)}>
        <option value="">not said</option>
        {field.choices.map((choice) => (
          <option key={choice} value={choice}>
            {choice}
          </option>
        ))}
      </select>
    );
  }
  if (field.control === "json")
    return <textarea {...given} rows={4} spellcheck={false} onInput={(event) => change(event.currentTarget.value)} />;
  const typed = {
    autocomplete: "off",
    spellcheck: false,
    onInput: (event: TargetedInputEvent<HTMLInputElement>) => change(event.currentTarget.value),
  };
  if (field.secret) return <input {...given} {...typed} type="password" />;
  const numeric = field.control === "whole" || field.control === "number";
  return <input {...given} {...typed} type="text" inputMode={numeric ? "decimal" : "text"} />;
}
