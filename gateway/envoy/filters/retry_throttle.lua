-- Stops retries while they do not help: the throttle of gRFC A6, counted by calls and not by attempts. A call that ends
-- in UNAVAILABLE in spite of its retries costs ten; any other end of a call that may be retried gives one back; while
-- no more than half is left, calls get no retries. Each worker thread counts for itself, each service apart.
--
-- An instance that is killed costs nothing: its calls are answered by another one. In an outage of all instances the
-- retries of a few calls are spent, and the rest fail at once.
-- SERVICE, TOKENS_MAX, COST and REFUND are set above.

local left = {}

-- The service whose retries count, nil where the contract allows none.
local function service_of(handle)
  return handle:metadata():get(SERVICE)
end

local function limit(handle)
  local service = service_of(handle)
  if service ~= nil and (left[service] or TOKENS_MAX) * 2 <= TOKENS_MAX then
    handle:headers():replace("x-envoy-max-retries", "0")
  end
end

local function count(handle)
  local service = service_of(handle)
  if service == nil then return end
  local headers, now = handle:headers(), left[service] or TOKENS_MAX
  if headers:get("grpc-status") == "14" or headers:get(":status") == "503" then
    left[service] = math.max(0, now - COST)
  else
    left[service] = math.min(TOKENS_MAX, now + REFUND)
  end
end

-- An error here costs the throttle, not the call.
function envoy_on_request(handle)
  local ran, problem = pcall(limit, handle)
  if not ran then handle:logErr("retry_throttle: " .. tostring(problem)) end
end

function envoy_on_response(handle)
  local ran, problem = pcall(count, handle)
  if not ran then handle:logErr("retry_throttle: " .. tostring(problem)) end
end
