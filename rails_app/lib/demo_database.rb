# frozen_string_literal: true

# SQLite for many writers: the first process makes the tables, and processes wait in Ruby for a
# busy database.
#
# No migrations: web, sidecar and test processes start together on a missing
# database, and Rails cannot lock SQLite while one of them migrates it.
module DemoDatabase
  WAIT_SECONDS = 0.005
  MOST_WAITS = 2_000

  TABLES = [<<~LEDGER, <<~EXPECTATIONS, <<~CUSTOMERS].freeze
    CREATE TABLE IF NOT EXISTS ledger (
      id INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL, jid TEXT, job_key TEXT, job_class TEXT,
      queue TEXT, args TEXT, note TEXT, runner TEXT NOT NULL, pid INTEGER NOT NULL, at REAL NOT NULL)
  LEDGER
    CREATE TABLE IF NOT EXISTS expectations (
      id INTEGER PRIMARY KEY AUTOINCREMENT, job_key TEXT NOT NULL, job_class TEXT NOT NULL,
      outcome TEXT NOT NULL, at REAL NOT NULL)
  EXPECTATIONS
    CREATE TABLE IF NOT EXISTS customers (
      id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, email TEXT NOT NULL)
  CUSTOMERS

  INDEXES = [
    "CREATE INDEX IF NOT EXISTS ledger_jid ON ledger (jid, event)",
    "CREATE INDEX IF NOT EXISTS ledger_job_key ON ledger (job_key, event)"
  ].freeze

  # Waits in Ruby: SQLite's own busy timeout sleeps while it holds Ruby's global lock, so
  # the thread that would release the database could not run.
  module PatientConnection
    private

    def configure_connection
      super
      connection = @raw_connection || @connection
      connection.busy_handler { |waits| waits < MOST_WAITS && sleep(WAIT_SECONDS) }
      # WAL lets readers and one writer work together; NORMAL is its usual, crash-safe companion.
      connection.execute("PRAGMA journal_mode = WAL")
      connection.execute("PRAGMA synchronous = NORMAL")
    end
  end

  # One process at a time: SQLite refuses a second one that switches a new database to WAL, and does
  # not wait for its busy handler then.
  def self.prepare!
    alone do
      pool = ActiveRecord::Base.connection_pool
      pool.with_connection do |connection|
        (TABLES + INDEXES).each { |statement| connection.execute(statement) }
      end
      # A SQLite connection must not live on in forked workers.
      pool.disconnect!
    end
  end

  # The lock is beside the database: the app's own directory may be read-only, as in a container.
  def self.alone
    database = ActiveRecord::Base.connection_db_config.database
    path = Rails.root.join("#{database}.lock")
    path.dirname.mkpath
    File.open(path, File::RDWR | File::CREAT, 0o600) do |file|
      file.flock(File::LOCK_EX)
      yield
    end
  end
  private_class_method :alone
end

ActiveSupport.on_load(:active_record) do
  require "active_record/connection_adapters/sqlite3_adapter"
  ActiveRecord::ConnectionAdapters::SQLite3Adapter.prepend(DemoDatabase::PatientConnection)
end
