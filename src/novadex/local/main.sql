CREATE DATABASE novadex_db OWNER novadex_owner
