-- Roles belong to the whole cluster, where other databases may use them: they stay.
DO $$ BEGIN END $$;
