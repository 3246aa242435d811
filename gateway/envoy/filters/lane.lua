-- Decides, once for each call, by which lane it goes, and says so in one header: routes go by it here, and so do all calls
-- and events that this one leads to. The control plane says which lanes are open; without any, the filter is off.
--
-- A lane that was asked for comes first, then one that a claim of the token names, then shares of the subjects. A subject
-- is in a lane's share or not, whatever gateway asks, and stays in while the share grows. A call without a token has no
-- subject and is drawn by itself. ASKED, HEADER, JWT and PAYLOAD are set above.

local SHARES = 10000
-- A polynomial over a prime: every step is exact in the 53 bits of Lua's numbers.
local PRIME, FACTOR = 4294967291, 1000003

-- Where a subject stands among all, from 0 to SHARES; elsewhere for each lane, so that not the same ones try everything.
local function share_of(lane, subject)
  -- The bytes behind make names that differ in the last letter stand far apart.
  local text, hash = lane .. "/" .. subject .. "///", 0
  for index = 1, #text do hash = (hash * FACTOR + string.byte(text, index)) % PRIME end
  return hash % SHARES
end

local function has_claim(claims, lane)
  local said = claims[lane.claim]
  if type(said) ~= "string" then return false end
  if lane.claim ~= "scope" then return said == lane.value end
  return string.find(" " .. said .. " ", " " .. lane.value .. " ", 1, true) ~= nil
end

local function is_in_share(lane, claims)
  if lane.percent <= 0 then return false end
  local drawn = type(claims.sub) == "string" and share_of(lane.name, claims.sub) or math.random() * SHARES
  return drawn < lane.percent * SHARES / 100
end

local function choose(lanes, asked, claims)
  for _, lane in ipairs(lanes) do
    if lane.header ~= "" and asked == lane.header then return lane.name end
  end
  for _, lane in ipairs(lanes) do
    if lane.claim ~= "" and has_claim(claims, lane) then return lane.name end
  end
  for _, lane in ipairs(lanes) do
    if is_in_share(lane, claims) then return lane.name end
  end
  return nil
end

local function decide(handle)
  local lanes = handle:filterContext():get("lanes")
  local verified = handle:streamInfo():dynamicMetadata():get(JWT)
  local claims = verified ~= nil and verified[PAYLOAD] or {}
  local headers = handle:headers()
  local lane = choose(lanes, headers:get(ASKED), claims)
  if lane == nil then return end
  headers:replace(HEADER, lane)
  handle:clearRouteCache()
end

-- An error here costs the lane a call, which goes where all others go.
function envoy_on_request(handle)
  local ran, problem = pcall(decide, handle)
  if not ran then handle:logErr("lane: " .. tostring(problem)) end
end
