# frozen_string_literal: true

# Enqueues a visible mix: every way to enqueue a job, and every end of one. `size` is the number
# of plain jobs. It notes the expected end of each job.
class DemoMix
  LATER_SECONDS = 5
  MUCH_LATER_SECONDS = 6 * 3600

  def initialize(size: 20, slow_seconds: 2.0, native: true)
    @size = size
    @slow_seconds = slow_seconds
    @native = native
  end

  # Number of jobs enqueued.
  def enqueue
    before = Expectation.count
    Current.set(tenant: "acme", request_id: SecureRandom.uuid) { enqueue_all }
    Expectation.count - before
  end

  private

  def enqueue_all
    plain
    bulk
    scheduled
    failing
    ending_early
    active_jobs
    moving
    native if @native
  end

  def plain
    @size.times { |number| expect("done", LedgerJob, LedgerJob.perform_async("acc-#{number}", 100 * number)) }
    4.times { expect("done", SlowJob, SlowJob.perform_async(@slow_seconds)) }
    expect("done", CpuJob, CpuJob.perform_async(50))
    expect("done", EchoJob, EchoJob.perform_async("zoë", 2**70, 1.0, nil, {"deep" => [1, {"é" => true}]}))
    expect("done", TaggedJob, TaggedJob.perform_async)
    expect("done", TenantJob, TenantJob.perform_async)
    expect("done", CountdownJob, CountdownJob.perform_async(5, 0.2))
  end

  def bulk
    jids = Sidekiq::Client.push_bulk("class" => BulkJob, "args" => (1..5 * @size).map { |number| [number] })
    expect("done", BulkJob, *jids)
  end

  def scheduled
    expect("done", LedgerJob, LedgerJob.perform_in(LATER_SECONDS, "later", 1))
    expect("done", LedgerJob, LedgerJob.set(queue: "low").perform_at(LATER_SECONDS.seconds.from_now, "later", 2))
    expect("scheduled", LedgerJob, LedgerJob.perform_in(MUCH_LATER_SECONDS, "much later", 3))
  end

  def failing
    2.times { |number| expect("done", FlakyJob, FlakyJob.perform_async(number + 1)) }
    expect("done", DelayedRetryJob, DelayedRetryJob.perform_async)
    expect("done", LowRetryJob, LowRetryJob.perform_async)
    [DoomedJob, RetryForJob].each { |job| expect("dead", job, job.perform_async) }
  end

  def ending_early
    [ExhaustedJob, BacktraceJob].each { |job| expect("dead", job, job.perform_async) }
    [QuietDeathJob, NoRetryJob].each { |job| expect("dropped", job, job.perform_async) }
    deciding if SidekiqFeatures.retry_verdicts?
  end

  # On an older Sidekiq both would pass through Retries, and say that they do not.
  def deciding
    expect("dead", KillJob, KillJob.perform_async)
    expect("dropped", DiscardJob, DiscardJob.perform_async)
  end

  def active_jobs
    customer = Customer.create!(name: "Ada Lovelace", email: "ada@example.com")
    expect_active("done", WelcomeJob.perform_later(customer))
    expect_active("done", ImportJob.perform_later(1))
    expect_active("done", InvoiceJob.perform_later(number: 7, total: Money.new(4_250, "EUR"), note: "thank you"))
    expect_active("done", CustomerMailer.welcome(customer, coupon: "HELLO").deliver_later)
    expect_active("done", WelcomeJob.set(wait: LATER_SECONDS.seconds).perform_later(customer))
    expect_active("dead", StrictJob.perform_later)
    forgotten
  end

  # Its customer is gone before it runs: discard_on ends it without an error, so it counts as done.
  def forgotten
    customer = Customer.create!(name: "Soon Gone", email: "gone@example.com")
    job = ForgetCustomerJob.set(wait: LATER_SECONDS.seconds).perform_later(customer)
    customer.destroy!
    expect_active("done", job)
  end

  # The class moves to Python: the jid says where each job runs.
  def moving
    20.times { |number| expect("done", StatementJob, StatementJob.perform_async("acc-#{number}", 100 * number)) }
  end

  # No Ruby class of that name exists: only a native Python task can run it.
  def native
    3.times do |number|
      jid = Sidekiq::Client.push("class" => "ReportJob", "queue" => "reports", "args" => ["2026-0#{number + 1}", {"rows" => 10}])
      expect("done", "ReportJob", jid)
    end
  end

  def expect(outcome, job_class, *jids)
    Expectation.add(outcome, job_class, *jids)
  end

  def expect_active(outcome, job)
    Expectation.add(outcome, job.class, job.job_id)
  end
end
