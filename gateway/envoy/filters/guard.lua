-- Looks at each call once more between the check of its token and that of its scopes: at claims and frame. One filter for
-- both, because what Envoy spends on entering a script is as much as what these spend inside.
--
-- Fails closed: an error in a check is a refusal. claims and frame are the scripts above, and so is REASON.

local function examine(handle)
  local headers = handle:headers()
  claims.check(handle, headers)
  frame.check(handle, headers)
end

function envoy_on_request(handle)
  local ran, refusal = pcall(examine, handle)
  if ran then return end
  if type(refusal) ~= "table" then
    handle:logErr("guard: " .. tostring(refusal))
    refusal = {status = "500", reason = "GATEWAY_SCRIPT", sentence = "The call could not be checked"}
  end
  handle:respond({[":status"] = refusal.status, [REASON] = refusal.reason}, refusal.sentence)
end
