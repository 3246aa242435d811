-- Stops retries while they do not help: the throttle of gRFC A6, counted by calls and not by attempts. A call that ends
-- in UNAVAILABLE in spite of its retries costs ten; any other end of a call that may be retried gives one back; while
-- no more than half is left, calls get no retries. Each worker thread counts for itself, each service apart.
--
-- An instance that is killed costs nothing: its calls are answered by another one. In an outage of all instances the
-- retries of a few calls are spent, and the rest fail at once.
-- SERVICE, TOKENS_MAX, COST, REFUND and REASON are set above.

local left = {}
-- How many services have less than TOKENS_MAX left. While none has, a call that ends well changes nothing, and nothing is
-- looked up for it: that is nearly every call.
local hurt = 0

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

local function settle(handle, change)
  local service = service_of(handle)
  if service == nil then return end
  local before = left[service] or TOKENS_MAX
  local now = math.max(0, math.min(TOKENS_MAX, before + change))
  left[service] = now
  if before == TOKENS_MAX and now < TOKENS_MAX then hurt = hurt + 1 end
  if before < TOKENS_MAX and now == TOKENS_MAX then hurt = hurt - 1 end
end

local function count(handle, headers, failed, refused)
  if failed then
    -- What a script has refused was never on its way.
    if headers:get(REASON) == nil then settle(handle, -COST) end
  elseif not refused then
    settle(handle, REFUND)
  end
end

return {
  -- An error here costs the throttle, not the call.
  limit = function(handle)
    if hurt == 0 then return end
    local ran, problem = pcall(limit, handle)
    if not ran then handle:logErr("throttle: " .. tostring(problem)) end
  end,
  -- `failed`: the call ended in UNAVAILABLE; `refused`: the gateway gave the answer, be it because it reached no service.
  count = function(handle, headers, failed, refused)
    if not failed and hurt == 0 then return end
    local ran, problem = pcall(count, handle, headers, failed, refused)
    if not ran then handle:logErr("throttle: " .. tostring(problem)) end
  end,
}
