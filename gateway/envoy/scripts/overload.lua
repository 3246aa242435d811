-- Refuses here what an overloaded service would refuse: a refusal of an instance costs it a fair part of what a call costs.
-- Each answer that says overloaded raises the share of calls of the same service and criticality that are refused, and
-- time halves it. So only as many refusals reach a service as it takes to notice that it is still overloaded, and calls
-- come back within seconds once it is not. Each worker thread decides by the answers that it sees itself.
--
-- Critical calls have no class and are never refused here. checks is the script above; CLASS, MARK, STEP_PERCENT,
-- MOST_PERCENT and HALF_LIFE_MS are set above.

local share, since = {}, {}
-- How many classes are refused anything. While none is, nothing is looked up for a call: that is nearly always.
local shedding = 0

local function class_of(handle)
  return handle:metadata():get(CLASS)
end

local function share_of(class, now)
  local then_ = since[class]
  if then_ == nil then return 0 end
  return share[class] * 0.5 ^ ((now - then_) / HALF_LIFE_MS)
end

local function calm(class)
  share[class], since[class], shedding = nil, nil, shedding - 1
end

local function is_refused(handle)
  local class = class_of(handle)
  if class == nil or since[class] == nil then return false end
  local now = share_of(class, handle:timestamp())
  if now < 0.01 then
    calm(class)
    return false
  end
  return math.random() < now
end

local function learn(handle, headers)
  if headers:get(MARK) == nil then return end
  headers:remove(MARK)
  local class = class_of(handle)
  if class == nil then return end
  local now = handle:timestamp()
  if since[class] == nil then shedding = shedding + 1 end
  share[class], since[class] = math.min(MOST_PERCENT / 100, share_of(class, now) + STEP_PERCENT / 100), now
end

return {
  -- Raises a refusal. An error here costs the service a call that it has to refuse itself.
  check = function(handle)
    if shedding == 0 then return end
    local ran, refused = pcall(is_refused, handle)
    if not ran then return handle:logErr("overload: " .. tostring(refused)) end
    if refused then checks.stop("429", "OVERLOADED", "There is too much to do just now; try again later") end
  end,
  learn = function(handle, headers)
    local ran, problem = pcall(learn, handle, headers)
    if not ran then handle:logErr("overload: " .. tostring(problem)) end
  end,
}
