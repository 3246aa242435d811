"""The SQL of the orders service, as constants. Run by `store`; nothing else reads it.

All of it is meant for PostgreSQL and CockroachDB alike, at SERIALIZABLE. `unnest` turns the arrays into rows in the
order in which they come, and the store sends them sorted by product id.

Stock is reached through its primary key only, whatever the planner believes of the table: a lateral subquery with
FOR UPDATE is run once per row and in the rows' order, and an upsert finds its row by the index that it names. So two
orders of the same products queue instead of deadlocking; and an order marks as read the rows that it takes, not the
whole table, which would make serializable transactions abort each other that share no product. The upserts of orders
never insert: they are fed with rows that were just locked. Setting stock reads nothing at all.
"""

# One statement for one order. Its parts depend on each other through their results, so they run in this order:
# claim the request id; lock and take stock (only where the claim is ours); store the order, its items and its event
# (only where every product was taken). The caller rolls back where `taken` falls short.
PLACE_ORDER = """
WITH claim AS (
    INSERT INTO idempotency (principal, method, request_id, body_hash, response, create_time)
    VALUES (%(principal)s, %(method)s, %(request_id)s::uuid, %(body_hash)s::bytea, %(answer)s::bytea, %(now)s)
    ON CONFLICT (principal, method, request_id) DO NOTHING
    RETURNING request_id
), lines AS MATERIALIZED (
    SELECT l.product_id, l.position, l.display_name, l.quantity, l.price
    FROM unnest(
        %(product_ids)s::text[], %(positions)s::bigint[], %(display_names)s::text[],
        %(quantities)s::bigint[], %(prices)s::bigint[]
    ) AS l (product_id, position, display_name, quantity, price)
    WHERE EXISTS (SELECT 1 FROM claim)
), locked AS MATERIALIZED (
    SELECT l.product_id, l.quantity
    FROM lines AS l
    CROSS JOIN LATERAL (
        SELECT s.quantity FROM stock AS s WHERE s.product_id = l.product_id FOR UPDATE
    ) AS here
    WHERE here.quantity >= l.quantity
), taken AS (
    INSERT INTO stock (product_id, quantity, update_time)
    SELECT k.product_id, k.quantity, %(now)s::timestamptz FROM locked AS k
    ON CONFLICT (product_id) DO UPDATE
    SET quantity = stock.quantity - excluded.quantity, update_time = excluded.update_time
    WHERE stock.quantity >= excluded.quantity
    RETURNING product_id, quantity
), complete AS (
    SELECT 1 AS yes WHERE (SELECT count(*) FROM taken) = cardinality(%(product_ids)s::text[])
), placed AS (
    INSERT INTO orders (id, user_id, currency, total_minor, state, revision, create_time, update_time, region_code)
    SELECT %(order_id)s::uuid, %(user_id)s::text, %(currency)s::text, %(total_minor)s::bigint, %(state)s::text,
        %(revision)s::bigint, %(now)s::timestamptz, %(now)s::timestamptz, %(region_code)s::text
    FROM complete
    RETURNING id
), items AS (
    INSERT INTO order_items (
        order_id, product_id, position, display_name, quantity, cancelled_quantity, unit_price_minor
    )
    SELECT %(order_id)s::uuid, l.product_id, l.position, l.display_name, l.quantity, 0, l.price
    FROM lines AS l, complete
    RETURNING product_id
), event AS (
    INSERT INTO outbox (id, type, ordering_key, envelope, traceparent)
    SELECT %(event_id)s::uuid, %(event_type)s::text, %(event_key)s::text, %(envelope)s::bytea, %(traceparent)s::text
    FROM complete
    RETURNING id
)
SELECT
    EXISTS (SELECT 1 FROM claim) AS claimed,
    ARRAY(SELECT product_id FROM taken) AS taken,
    ARRAY(SELECT product_id FROM taken WHERE quantity = 0) AS depleted
"""

# Stores a cancellation and puts its pieces back. The three counts tell the store that each part found its rows.
CANCEL_ORDER = """
WITH lines AS MATERIALIZED (
    SELECT l.product_id, l.quantity
    FROM unnest(%(product_ids)s::text[], %(quantities)s::bigint[]) AS l (product_id, quantity)
), changed AS (
    UPDATE orders
    SET total_minor = %(total_minor)s::bigint, state = %(state)s::text, revision = %(revision)s::bigint,
        update_time = %(now)s::timestamptz
    WHERE id = %(order_id)s::uuid AND revision = %(revision)s::bigint - 1
    RETURNING id
), items AS (
    UPDATE order_items AS i SET cancelled_quantity = i.cancelled_quantity + l.quantity
    FROM lines AS l
    WHERE i.order_id = %(order_id)s::uuid AND i.product_id = l.product_id
    RETURNING i.product_id
), locked AS MATERIALIZED (
    SELECT l.product_id, l.quantity
    FROM lines AS l
    CROSS JOIN LATERAL (
        SELECT s.quantity FROM stock AS s WHERE s.product_id = l.product_id FOR UPDATE
    ) AS here
), put_back AS (
    INSERT INTO stock (product_id, quantity, update_time)
    SELECT k.product_id, k.quantity, %(now)s::timestamptz FROM locked AS k
    ON CONFLICT (product_id) DO UPDATE
    SET quantity = stock.quantity + excluded.quantity, update_time = excluded.update_time
    RETURNING product_id
)
SELECT
    (SELECT count(*) FROM changed) AS orders,
    (SELECT count(*) FROM items) AS items,
    (SELECT count(*) FROM put_back) AS stock
"""

_ORDER_COLUMNS = "id, user_id, currency, total_minor, state, revision, create_time, update_time, region_code"

# By its owner, too: another's order is not found, not locked, and no further statement follows.
ORDER = f"SELECT {_ORDER_COLUMNS} FROM orders WHERE id = %(id)s::uuid AND user_id = %(owner)s"

LOCK_ORDER = f"{ORDER} FOR UPDATE"

FIRST_ORDERS = f"""
SELECT {_ORDER_COLUMNS} FROM orders
WHERE user_id = %(user_id)s
ORDER BY create_time DESC, id DESC LIMIT %(limit)s::bigint
"""

# The row comparison walks the index `orders_by_user` on from where the page before ended.
NEXT_ORDERS = f"""
SELECT {_ORDER_COLUMNS} FROM orders
WHERE user_id = %(user_id)s AND (create_time, id) < (%(time)s::timestamptz, %(id)s::uuid)
ORDER BY create_time DESC, id DESC LIMIT %(limit)s::bigint
"""

ITEMS = """
SELECT order_id, product_id, display_name, quantity, cancelled_quantity, unit_price_minor
FROM order_items
WHERE order_id = ANY(%(ids)s::uuid[])
ORDER BY order_id, position
"""

REVISIONS = "SELECT id, revision FROM orders WHERE id = ANY(%(ids)s::uuid[])"

STOCK = "SELECT product_id, quantity, update_time FROM stock WHERE product_id = ANY(%(product_ids)s::text[])"

# Locks the row of a product, makes it where there is none, and tells what it holds. Not a SELECT: looking for a row
# that is not there marks an index page as read (the whole table while that is small), and whoever then puts another
# product onto that page is in conflict. An upsert reads nothing in this sense, so those who fill an empty shop at
# once do not abort each other.
HOLD_STOCK = """
INSERT INTO stock (product_id, quantity, update_time)
VALUES (%(product_id)s, 0, %(now)s::timestamptz)
ON CONFLICT (product_id) DO UPDATE SET update_time = excluded.update_time
RETURNING quantity
"""

SET_STOCK = """
WITH movement AS (
    INSERT INTO stock_movement (id, product_id, difference, request_id, create_time)
    VALUES (
        %(movement_id)s::uuid, %(product_id)s, %(difference)s::bigint, %(request_id)s::uuid, %(now)s::timestamptz
    )
    RETURNING id
)
INSERT INTO stock (product_id, quantity, update_time)
VALUES (%(product_id)s, %(quantity)s::bigint, %(now)s::timestamptz)
ON CONFLICT (product_id) DO UPDATE SET quantity = excluded.quantity, update_time = excluded.update_time
"""

# Conservation: for each product, what was put in by movements is on hand or stands in orders.
CONSERVATION = """
WITH moved AS (
    SELECT product_id, sum(difference)::bigint AS pieces FROM stock_movement GROUP BY product_id
), ordered AS (
    SELECT product_id, sum(quantity - cancelled_quantity)::bigint AS pieces FROM order_items GROUP BY product_id
), balance AS (
    SELECT product_id, sum(on_hand) AS on_hand, sum(moved) AS moved, sum(ordered) AS ordered
    FROM (
        SELECT product_id, quantity AS on_hand, 0 AS moved, 0 AS ordered FROM stock
        UNION ALL SELECT product_id, 0, pieces, 0 FROM moved
        UNION ALL SELECT product_id, 0, 0, pieces FROM ordered
    ) AS parts
    GROUP BY product_id
)
SELECT
    (SELECT count(*) FROM stock) AS products,
    coalesce(sum(on_hand), 0)::bigint AS on_hand,
    coalesce(sum(moved), 0)::bigint AS movements,
    coalesce(sum(ordered), 0)::bigint AS ordered_net,
    ARRAY(SELECT product_id FROM balance WHERE moved <> on_hand + ordered ORDER BY product_id LIMIT 10) AS mismatched
FROM balance
"""

ORDER_COUNT = "SELECT count(*) FROM orders"
