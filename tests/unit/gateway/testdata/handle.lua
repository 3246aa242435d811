-- A stand-in for Envoy's stream handle, for running the gateway's scripts in Envoy's own Lua at load time.
-- It is as strict as the real one: headers cannot be touched after the body has been waited for.

local report = {}

local function hex(text)
  return (string.gsub(tostring(text), ".", function(character) return string.format("%02x", string.byte(character)) end))
end

local function said(case, key, value)
  report[#report + 1] = case .. " " .. hex(key) .. " " .. hex(value)
end

local function fake(case)
  local dead = false
  local headers = {}
  function headers:get(name)
    if dead then error("object used outside of proper scope") end
    return case.headers[name]
  end
  function headers:replace(name, value)
    if dead then error("object used outside of proper scope") end
    if type(value) ~= "string" then error("bad header value") end
    case.headers[name] = value
  end
  function headers:remove(name)
    if dead then error("object used outside of proper scope") end
    case.headers[name] = nil
  end
  local body = {}
  function body:length() return #case.body end
  function body:getBytes(from, count) return string.sub(case.body, from + 1, from + count) end
  function body:setBytes(bytes) case.body = bytes end
  local dynamic = {}
  function dynamic:get(namespace) return case.dynamic[namespace] end
  function dynamic:set(namespace, key, value)
    case.dynamic[namespace] = case.dynamic[namespace] or {}
    case.dynamic[namespace][key] = value
  end
  local metadata = {}
  function metadata:get(key) return case.route[key] end
  local info = {}
  function info:dynamicMetadata() return dynamic end
  local state = {}
  function state:set(key, kind, value)
    if kind ~= "envoy.string" or type(value) ~= "string" then error("no such kind of filter state") end
    said(case.name, "state " .. key, value)
  end
  function info:filterState() return state end
  local handle = {}
  function handle:headers() return headers end
  function handle:metadata() return metadata end
  function handle:streamInfo() return info end
  function handle:timestamp() return case.now_ms end
  function handle:base64Escape(bytes) return hex(bytes) end
  function handle:logErr(text) said(case.name, "log", text) end
  function handle:body(wrapped)
    dead = true
    if case.body == "" and not wrapped then return nil end
    return body
  end
  function handle:respond(answer, text)
    for key, value in pairs(answer) do said(case.name, "respond " .. key, value) end
    said(case.name, "respond body", text)
  end
  return handle
end

local function run(cases, hook)
  for _, case in ipairs(cases) do
    os.time = function() return math.floor(case.now_ms / 1000) end
    _G[hook](fake(case))
    for key, value in pairs(case.headers) do said(case.name, "header " .. key, value) end
    for key, value in pairs(case.dynamic["weft.refusal"] or {}) do said(case.name, "noted " .. key, value) end
    said(case.name, "body", case.body)
  end
  error("REPORT[" .. table.concat(report, ";") .. "]")
end
