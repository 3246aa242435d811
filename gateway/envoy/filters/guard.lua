-- Looks at each call once more between the check of its token and that of its scopes: at claims and frame. One filter for
-- both, because what Envoy spends on entering a script is as much as what these spend inside.
--
-- checks, claims and frame are the scripts above.

local function examine(handle)
  local headers = handle:headers()
  claims.check(handle, headers)
  frame.check(handle, headers)
end

function envoy_on_request(handle)
  local ran, raised = pcall(examine, handle)
  if not ran then checks.refuse(handle, "guard", raised, "The call could not be checked") end
end
