-- Looks at each call once more between the check of its token and that of its scopes: at claims, at frame, and at what the
-- last answers of its service said of retries and overload. One filter for all of it, because what Envoy spends on entering
-- a script is as much as what these spend inside; and what is learned of answers must be known where calls are looked at.
--
-- checks, claims, frame, throttle and overload are the scripts above; WHY and ATTEMPTS are set above.

local function examine(handle)
  local headers = handle:headers()
  claims.check(handle, headers)
  overload.check(handle)
  throttle.limit(handle, headers)
  frame.check(handle, headers)
end

function envoy_on_request(handle)
  local ran, raised = pcall(examine, handle)
  if not ran then checks.refuse(handle, "guard", raised, "The call could not be checked") end
end

-- Of answers come by those alone that something is learned of: `guard.seen` says which.
function envoy_on_response(handle)
  local headers = handle:headers()
  local status, code, refused = headers:get(":status"), headers:get("grpc-status"), headers:get(WHY) ~= nil
  throttle.count(handle, headers, status == "503" or code == "14", refused, headers:get(ATTEMPTS))
  if not refused and (status == "429" or code == "8") then overload.learn(handle, headers) end
end
